"""The Xet format: how the Hub's newer clients cut large files, pack the pieces, and say how a file is made of them.

    chunk        up to 128 KiB of a file, cut where its content says so, and compressed on its own
    xorb         up to 8192 chunks, one behind the other; its name is a Merkle hash over those of its chunks
    shard        how files are made of chunks of xorbs, with the sha256 of each file

    hashing.py   the hashes of chunks and xorbs
    chunks.py    one chunk: its header, its compression
    xorb.py      a xorb as a stream of plain chunks, which are what its name says
    shard.py     a shard's files, and the xorbs that it tells of

Everything here comes from outside: each length is bounded before anything of that length is made. The room knows no
teams, and not where xorbs are kept.

Source: the Xet protocol specification, https://huggingface.co/docs/xet, and the public repository
huggingface/xet-core (`xet_core_structures`), whose formats these are.
"""
