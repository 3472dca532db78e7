"""The rules of the house that no linter knows: each is a function that says what it objects to."""
