"""What a value may be: fields with limits and units, the checks, and the errors people see."""
