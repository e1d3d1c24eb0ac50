"""The inbox: any JSON object or XML document that another system hands over, kept as it came."""
