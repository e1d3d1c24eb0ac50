@"%~dp0run.cmd" logs %*
