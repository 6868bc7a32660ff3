"""Labels by people: a page on which they judge clips, and what becomes of their answers."""

from cogvx.curation.labelling.export import ExportResult, export_labels
from cogvx.curation.labelling.serve import DEFAULT_PORT, open_label_page

__all__ = ["DEFAULT_PORT", "ExportResult", "export_labels", "open_label_page"]
