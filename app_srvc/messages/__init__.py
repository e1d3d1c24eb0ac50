"""The ledger of messages: accept, dispatch, process, relay, and the books that prove it."""
