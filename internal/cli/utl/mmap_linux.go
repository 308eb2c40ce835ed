package utl

import "syscall"

// mmapFlags reads the whole file in at once: it will be needed anyway.
const mmapFlags = syscall.MAP_POPULATE
