"""Where the bytes are: stores of immutable blobs by sha256. They know no adapters, versions or namespaces."""
