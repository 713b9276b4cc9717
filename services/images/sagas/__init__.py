"""What images does in more than one step, one module a verb."""
