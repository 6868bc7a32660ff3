"""From folders and files of clips, in the forms that datasets come in, to a manifest."""

from cogvx.data.scan.forms import FORMS, Form
from cogvx.data.scan.run import ProbeStage, scan

__all__ = ["FORMS", "Form", "ProbeStage", "scan"]
