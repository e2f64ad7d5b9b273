"""Many products, each audited, trained, exported and evaluated as a task of Ray."""
