"""The console: what people see of the service as a whole. Acts only through what the API uses too."""
