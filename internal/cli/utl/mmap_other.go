//go:build !linux

package utl

const mmapFlags = 0 // reading ahead is a flag of Linux
