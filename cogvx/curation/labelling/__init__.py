"""Labels by people: a page on which they judge clips, and what becomes of their answers."""

from cogvx.curation.labelling.export import ExportResult, export_labels
from cogvx.curation.labelling.serve import DEFAULT_PORT, LabelServer, serve

__all__ = ["DEFAULT_PORT", "ExportResult", "LabelServer", "export_labels", "serve"]
