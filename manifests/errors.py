"""The errors a user can meet. Each message has three parts: what, where, what to do."""


def how_to_install(extra: str) -> str:
    """Return the command that installs an extra; hs-data is on no package index."""
    return f"in the checkout of hs-data run  pip install -c constraints.txt -e '.[{extra}]'"


class HsDataError(Exception):
    """Base of every error that hs-data raises on purpose; the CLI prints its message and exits with `exit_code`."""

    exit_code = 1


class ConfigError(HsDataError):
    """A setting, option or command-line value that cannot be used."""

    exit_code = 2


class SourceError(HsDataError):
    """A source folder that is missing, empty or not laid out as its authors publish it."""

    exit_code = 2


class ModelError(HsDataError):
    """A model file that is missing, has the wrong hash, or cannot run here."""


class DatasetError(HsDataError):
    """A dataset folder that is missing, damaged or made by another version."""


class MediaError(HsDataError):
    """An input file that cannot be read; it ends as one reason in `videos.parquet`, and the run goes on.

    Args:
        reason: a member of `hs_data.manifests.reasons.REASONS`.
        detail: what was measured or what the decoder said, in one line.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type["MediaError"], tuple[str, str]]:
        # Exceptions rebuild from `args` when they cross a process; ours takes two.
        return MediaError, (self.reason, self.detail)
