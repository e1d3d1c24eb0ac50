"""Registration: a person fills in a form or a program posts JSON, and a user comes to be."""
