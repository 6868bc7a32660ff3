"""Repositories of the Hugging Face hub: their snapshots in the cache or downloaded, and errors that say what to do."""

from collections.abc import Sequence
from pathlib import Path

from cogvx.errors import MissingError, UsageError
from cogvx.files import clean


def snapshot(
    repo: str, *, patterns: Sequence[str], local: bool, command: str = "", revision: str | None = None, kind: str = ""
) -> Path | None:
    """Return the folder of a repository's snapshot; with `local`, None when the cache has none.

    Args:
        repo: Its id.
        patterns: Which of its files.
        local: Look into the cache only.
        command: What a user runs to fetch it, for the error.
        revision: Commit, tag or branch; None: the newest.
        kind: Of model, as in "language", for the error.

    Raises:
        UsageError: There is no such repository.
        MissingError: It wants an agreement, or cannot be downloaded now.
    """
    from huggingface_hub import errors, snapshot_download

    try:
        found = snapshot_download(repo, revision=revision, local_files_only=local, allow_patterns=list(patterns))
        return Path(found)
    except errors.HFValidationError as error:
        raise UsageError(f"{repo} is no repository id") from error
    except errors.GatedRepoError as error:
        raise MissingError(
            f"{repo} asks for agreement to its terms: accept them on its page, then `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        what = f"{kind} model".strip()
        raise UsageError(f"no such {what}: {repo} is neither a folder here nor a public repository") from error
    except Exception as error:  # whatever the network throws: httpx, OSError, huggingface_hub
        if local and isinstance(error, errors.LocalEntryNotFoundError | OSError | errors.OfflineModeIsEnabled):
            return None
        reason = clean(str(error).splitlines()[0] if str(error) else type(error).__name__)[:120]
        raise MissingError(f"cannot download {repo} ({reason}); with a network, run `{command}`") from error
