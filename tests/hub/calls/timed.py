"""What benchmarks time of huggingface_hub, in the client's own process: its start-up isn't counted."""

import time

from huggingface_hub import HfApi, snapshot_download


def pull(endpoint, repo, cache):
    """Seconds of a download into an empty cache."""
    started = time.perf_counter()
    snapshot_download(repo, endpoint=endpoint, cache_dir=cache)
    return time.perf_counter() - started


def push(repo, folder):
    """Seconds of an upload into a repository that is there."""
    api = HfApi()
    api.create_repo(repo, exist_ok=True)
    started = time.perf_counter()
    api.upload_folder(repo_id=repo, folder_path=folder)
    return time.perf_counter() - started
