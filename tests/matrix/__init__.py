"""The test matrix: every combination that the contract names, and the copies that it must give."""
