"""Files of a commit as clients list them: regular ones, and large ones ("LFS"), which are named by their sha256."""

_LARGE = (".safetensors", ".gguf", ".bin", ".pt", ".pth", ".ckpt")
_MOST_REGULAR = 1 << 20  # bytes: a regular file comes within the body of a commit


def is_large(path: str, size: int) -> bool:
    """Whether clients send and fetch a file as a large one. An empty file never is."""
    return size > _MOST_REGULAR or (size > 0 and path.lower().endswith(_LARGE))
