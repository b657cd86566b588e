"""What tests ask of clients: functions that are sent to a client's process, and need nothing of this one."""


def upload(repo: str, folder: str) -> str:
    """A folder into a repository, which is made if it isn't there; the commit."""
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo(repo, exist_ok=True)
    return api.upload_folder(repo_id=repo, folder_path=folder).oid


def upload_file(repo: str, path: str, text: str) -> str:
    """One file of text; the commit."""
    from huggingface_hub import HfApi

    return HfApi().upload_file(repo_id=repo, path_in_repo=path, path_or_fileobj=text.encode()).oid


def snapshot(repo: str, revision: str | None, cache: str) -> str:
    """All files of a revision; the folder in which the cache has them."""
    from huggingface_hub import snapshot_download

    return snapshot_download(repo, revision=revision, cache_dir=cache)


def one_file(repo: str, path: str, revision: str, cache: str) -> str:
    """One file of a revision; where the cache has it."""
    from huggingface_hub import hf_hub_download

    return hf_hub_download(repo, path, revision=revision, cache_dir=cache)
