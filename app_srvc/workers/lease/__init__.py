"""What `LeaseWorker` is made of. Nothing here knows of this service: it speaks RQ only."""
