"""Who a thing belongs to: people, machines, applications, partners."""
