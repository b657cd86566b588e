"""The folder store's own: what lies on the disk, crashes, full disks, links and bounded memory."""
