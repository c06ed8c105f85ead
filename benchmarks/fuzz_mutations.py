"""Ways to damage a media file, by name."""

from fuzz_bases import Mutation
from fuzz_bytes import (
    behead,
    box_fields,
    boxes,
    bytewise,
    concatenate,
    copy_bytes,
    delete_run,
    extreme_numbers,
    flip_body,
    flip_header,
    flip_index,
    insert_junk,
    nest,
    repeat_tail,
    splice,
    swap_halves,
    timescale,
    truncate,
    zero_run,
)
from fuzz_packets import (
    drop_keyframes,
    drop_packets,
    duplicate_packets,
    grow_pictures,
    jump_times,
    negate_times,
    one_stream,
    remuxed,
    same_packets,
    scale_times,
    shuffle_packets,
    swap_streams,
)

SUFFIXES = (".mp4", ".mkv", ".avi", ".ts", ".wav", ".flv", ".mxf", ".webm", ".mp3", ".ogv")

MUTATIONS: dict[str, Mutation] = {
    **{do.__name__: bytewise(do) for do in (flip_header, flip_index, flip_body, truncate, behead, swap_halves)},
    **{do.__name__: bytewise(do) for do in (repeat_tail, zero_run, insert_junk, delete_run, extreme_numbers)},
    **{do.__name__: bytewise(do) for do in (boxes, box_fields, timescale, nest)},
    "wrong_ending": bytewise(copy_bytes),
    **{do.__name__: do for do in (concatenate, splice, swap_streams, grow_pictures)},
    **{do.__name__: remuxed(do) for do in (scale_times, negate_times, jump_times, drop_keyframes, duplicate_packets)},
    **{do.__name__: remuxed(do) for do in (shuffle_packets, drop_packets, one_stream)},
    "added_subtitles": remuxed(same_packets, extra="mov_text"),
    "added_sound": remuxed(same_packets, extra="pcm_s16le"),
}
"""Name to what it does; the names stand in the table."""
