"""Networks and detectors, one per file, each behind the interface of the stage that uses it."""
