@echo off
rem Runs a command of the folder "parts" with the first Python that is new enough; PYTHON names another.
rem Each call stands on a line of its own: inside parentheses, one in an argument would end the block.
setlocal
if defined PYTHON goto named
py -3 -c "import sys; sys.exit(sys.version_info < (3, 8))" >nul 2>nul
if not errorlevel 1 goto launcher
python -c "import sys; sys.exit(sys.version_info < (3, 8))" >nul 2>nul
if not errorlevel 1 goto python
echo Python 3.8 or newer is needed. Install it, or name its program in the variable PYTHON. 1>&2
exit /b 1
:named
"%PYTHON%" "%~dp0parts" %*
exit /b %errorlevel%
:launcher
py -3 "%~dp0parts" %*
exit /b %errorlevel%
:python
python "%~dp0parts" %*
exit /b %errorlevel%
