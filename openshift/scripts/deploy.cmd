@"%~dp0run.cmd" deploy %*
