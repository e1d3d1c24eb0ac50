@"%~dp0run.cmd" scale %*
