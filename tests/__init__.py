"""The tests of syncd; `tests.clients` has the programs that syncd stands between."""
