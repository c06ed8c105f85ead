"""The funnel, the figures and the page that show what a build kept, what it dropped and why."""
