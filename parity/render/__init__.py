"""From a report to something to look at: terminal text and pictures; pure functions."""
