@"%~dp0run.cmd" delete %*
