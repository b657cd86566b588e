"""huggingface_hub's calls, the same for every version of it."""

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    HfApi,
    HfFileSystem,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    snapshot_download,
)

api = HfApi()


def whoami():
    found = api.whoami()
    return found["name"], [team["name"] for team in found["orgs"]]


def upload(repo, folder):
    """A folder into a repository, which is made if it isn't there; the commit."""
    api.create_repo(repo, exist_ok=True)
    return api.upload_folder(repo_id=repo, folder_path=folder).oid


def upload_to(repo, folder, revision):
    return api.upload_folder(repo_id=repo, folder_path=folder, revision=revision).oid


def upload_text(repo, path, text):
    return api.upload_file(repo_id=repo, path_in_repo=path, path_or_fileobj=text.encode()).oid


def upload_notes(repo, who, count):
    """So many commits, of one file each."""
    return [upload_text(repo, f"{who}-{number}.md", "note") for number in range(count)]


def commit_on(repo, parent, text):
    added = [CommitOperationAdd("README.md", text.encode())]
    return api.create_commit(repo, added, commit_message="note", parent_commit=parent).oid


def delete_file(repo, path):
    return api.delete_file(path, repo).oid


def delete_folder(repo, path):
    return api.delete_folder(path, repo).oid


def copy(repo, source, to):
    return api.create_commit(repo, [CommitOperationCopy(source, to)], commit_message="copy").oid


def snapshot(repo, revision, cache):
    """All files of a revision; the folder in which the cache has them."""
    return snapshot_download(repo, revision=revision, cache_dir=cache)


def one_file(repo, path, revision, cache):
    """One file of a revision; where the cache has it."""
    return hf_hub_download(repo, path, revision=revision, cache_dir=cache)


def file_facts(repo, path, revision):
    found = get_hf_file_metadata(hf_hub_url(repo, path, revision=revision))
    return found.commit_hash, found.etag, found.size


def browse(repo, revision):
    """The names in a repository's root, and the first byte of its configuration, through its file system."""
    files = HfFileSystem()
    names = files.ls(f"{repo}@{revision}", detail=False)
    with files.open(f"{repo}@{revision}/adapter_config.json") as file:
        return sorted(name.rpartition("/")[2] for name in names), file.read(1).decode()


def read(repo):
    """What there is to know of a repository."""
    info = api.model_info(repo, files_metadata=True)
    refs = api.list_repo_refs(repo)
    weights = next(file for file in info.siblings if file.rfilename == "adapter_model.safetensors")
    entries = list(api.list_repo_tree(repo, recursive=True, expand=True))
    return {
        "id": info.id,
        "sha": info.sha,
        "private": info.private,
        "tags": info.tags,
        "library": info.library_name,
        "siblings": sorted(file.rfilename for file in info.siblings),
        "weights": [weights.size, weights.lfs.sha256],
        "branches": {branch.name: branch.target_commit for branch in refs.branches},
        "versions": {tag.name: tag.target_commit for tag in refs.tags},
        "tree": {entry.path: entry.size for entry in entries},
        "changed": {entry.path: entry.last_commit.oid for entry in entries},
        "files": sorted(api.list_repo_files(repo, revision="v1")),
        "known": [entry.path for entry in api.get_paths_info(repo, [weights.rfilename, "nothing"], revision="v2")],
        "commits": [(commit.commit_id, commit.title) for commit in api.list_repo_commits(repo)],
    }


def there_is(repo, revision=None, path=None):
    if path is not None:
        return api.file_exists(repo, path, revision=revision)
    return api.revision_exists(repo, revision) if revision else api.repo_exists(repo)


def find(**asked):
    return [model.id for model in api.list_models(**asked)]


def may_read(repo):
    api.auth_check(repo)


def create(repo, again=False, private=None):
    return str(api.create_repo(repo, exist_ok=again, private=private))


def create_dataset(repo):
    api.create_repo(repo, repo_type="dataset")


def remove(repo):
    api.delete_repo(repo)


def set_private(repo, private):
    api.update_repo_settings(repo, private=private)


def move(repo, to):
    api.move_repo(repo, to)


def tag(repo, name, revision=None):
    api.create_tag(repo, tag=name, revision=revision, tag_message="why")


def untag(repo, name):
    api.delete_tag(repo, tag=name)


def tags(repo):
    return {tag.name: tag.target_commit for tag in api.list_repo_refs(repo).tags}


def branch(repo, name, revision=None):
    api.create_branch(repo, branch=name, revision=revision)


def unbranch(repo, name):
    api.delete_branch(repo, branch=name)
