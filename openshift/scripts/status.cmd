@"%~dp0run.cmd" status %*
