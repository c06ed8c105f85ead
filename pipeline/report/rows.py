"""Rows of the two tables as a report reads them: a value by column.

They are no records of ours: most columns of `clips.parquet` follow from the metrics that are declared, so a field here
would say a second time what stands there.
"""

from typing import Any

ClipRow = dict[str, Any]
"""Row of `clips.parquet`: the columns of `CLIP_SCHEMA`, or those of them that were asked for."""
FileRow = dict[str, Any]
"""Row of `videos.parquet`, by the columns of `VIDEO_SCHEMA`."""
