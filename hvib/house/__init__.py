"""What the package stands on, apart from the method: values by name, and where it lies."""
