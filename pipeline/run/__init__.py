"""Execute a build: plan, ledgers, phases, finalize. Nothing here knows of pixels."""
