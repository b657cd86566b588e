"""Property tests here parse files and build automata: on a busy machine one example may take any time."""

from hypothesis import settings

settings.register_profile("without-deadline", deadline=None)
settings.load_profile("without-deadline")
