"""What real adapters and fakes must both do."""
