"""The closed vocabulary of reasons: why an input file or a clip did not become training data."""

REASONS: dict[str, str] = {
    # the file
    "unavailable": "the file is gone or cannot be read",
    "source_changed": "the file was replaced or written to during the build; the next build takes it as it is then",
    "throttled": "the site refused to serve it for now",
    "truncated": "the file ends before what its header or index promises",
    "not_media": "the content is not a media file, or it is no file but a pipe or device",
    "no_audio_stream": "there is video but no audio stream",
    "no_video_stream": "there is no video stream",
    "codec_missing": "this installation has no decoder for the codec",
    "picture_too_large": "the picture has more pixels than are decoded",
    "implausible_duration": "too long for its few bytes, or one picture is held too long",
    "implausible_sound": "no recording has this sample rate or number of channels",
    "decode_timeout": "decoding stalled and was killed",
    "decode_error": "the decoder gave up",
    "frame_count_mismatch": "more than 1 % of the frames could not be decoded",
    "av_length_mismatch": "audio and video differ in length by more than the limit",
    "duplicate": "another input has the same content",
    # annotations
    "annotation_missing": "the source says nothing about this file",
    "annotation_unreadable": "a line or entry of the source's annotation cannot be read",
    "outside_annotation": "the source names no clip in this part of the file",
    "bbox_resolution_mismatch": "the annotated box was made for a picture of another aspect",
    # the clip
    "too_short": "shorter than the shortest clip",
    "static_video": "the picture does not move",
    "no_face": "no face was found",
    "between_clips": "too little for a clip: beside a cut, where another person may come, or a moment without the face",
    "face_gap": "the face is missing for longer than the gap that is interpolated",
    "face_too_small": "the face has too few pixels",
    "face_out_of_frame": "the crop reaches too far outside the picture",
    "face_scale_change": "the face changes size too much for one fixed-height crop",
    "pose_out_of_range": "the head is turned too far",
    "multiple_faces": "several people are in the shot and the speaker is not known",
    "not_annotated": "the source's box shows another face of the picture",
    "identity_jump": "the person changes inside a shot",
    "no_speech": "nobody speaks, or this silent clip is above the target share",
    "off_screen_speaker": "there is speech but this mouth does not move",
    "too_short_for_sync": "too short to measure the audio offset",
    "low_sync_conf": "sound and lips do not belong together",
    "offset_out_of_range": "the audio offset is too large",
    "offset_inconsistent": "the audio offset changes inside the clip",
    "sync_fix_failed": "the offset is still there after the correction",
    "low_visual_quality": "blurred, too dark, too bright, or rated as a bad photo",
    "crop_leaks": "the crop geometry tells the mouth opening",
    "latent_nan": "the latents are not finite or out of range",
    "internal_error": "hs-data itself failed on it, or it crashed its worker twice",
}
"""Reason to the sentence that explains it to a person."""


def explain(reason: str) -> str:
    """Say what a reason means; a `KeyError` is a bug of ours, for the vocabulary is closed."""
    return REASONS[reason]
