"""How things look to people: tables, lines, errors. The only place that knows rich."""
