@"%~dp0run.cmd" rollback %*
