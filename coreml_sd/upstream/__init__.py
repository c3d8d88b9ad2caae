"""The one room that touches other libraries' internals.

`table` lists every attribute that is replaced, every module that is hidden and every internal that
is used or copied, with the reason, the versions, the measured gain and the test that says when it
can go; docs/upstream.md shows it. `COREML_SD_PLAIN=1` switches the shortcuts off (`plain`), and the
files that come out are the same. Each other module makes the changes to one library, by its name.
"""
