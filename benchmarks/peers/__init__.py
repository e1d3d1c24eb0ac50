"""RQ, our worker for it, and other job queues, each set up to do the same jobs on one Redis.

What is here runs in two places: `systems.py` and `environment.py` in the benchmark, the rest in the
processes of the systems. These have only the packages of their own environment, so it imports nothing
of `app_srvc`.
"""
