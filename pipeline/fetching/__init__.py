"""`hs-data fetch`: bring what a source names to where its reader finds it; the only package that asks for videos."""
