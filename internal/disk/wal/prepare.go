package wal

import (
	"fmt"
	"path/filepath"

	"github.com/steledb/stele/internal/base/files"
)

// preparer makes the files of segments to come: created under a temporary name,
// locked, preallocated. At most one is ready and one more in the making, so the
// names 0.tmp and 1.tmp are enough; leftovers of a crash are emptied and reused.
//
// start, take and close are called by the owner, one at a time. The goroutine
// owns made while it runs.
type preparer struct {
	fs    files.FS
	dir   string
	bytes int64

	made  int           // files made so far; the next one's name
	ready chan prepared // nil while nothing runs in the background; closed after a failure
	stop  chan struct{}
}

type prepared struct {
	file files.File
	path string
}

func newPreparer(fsys files.FS, dir string, bytes int64) *preparer {
	return &preparer{fs: fsys, dir: dir, bytes: bytes}
}

func (p *preparer) make() (prepared, error) {
	path := filepath.Join(p.dir, fmt.Sprintf("%d%s", p.made%2, tmpSuffix))
	f, err := p.fs.OpenFile(path, files.ReadWrite|files.Create|files.Truncate, files.PrivateFile)
	if err != nil {
		return prepared{}, err
	}
	if err := f.TryLock(); err != nil {
		f.Close()
		return prepared{}, err
	}
	if err := f.Preallocate(p.bytes); err != nil {
		f.Close()
		return prepared{}, err
	}
	p.made++
	return prepared{file: f, path: path}, nil
}

// start begins to make files ahead, until close or a failure.
func (p *preparer) start() {
	if p.ready != nil {
		return
	}
	p.ready, p.stop = make(chan prepared), make(chan struct{})
	go p.run(p.ready, p.stop)
}

// run hands over one file after the other. A failure ends it: the disk may have
// room again when the file is really needed, so take tries once more itself.
func (p *preparer) run(ready chan<- prepared, stop <-chan struct{}) {
	defer close(ready)
	for {
		next, err := p.make()
		if err != nil {
			return
		}
		select {
		case ready <- next:
		case <-stop:
			p.discard(next)
			return
		}
	}
}

func (p *preparer) discard(unused prepared) {
	unused.file.Close()
	p.fs.Remove(unused.path) // a leftover does no harm
}

// take returns a file for the next segment, waiting for it or making it.
func (p *preparer) take() (files.File, string, error) {
	background := p.ready != nil
	if background {
		if next, ok := <-p.ready; ok {
			return next.file, next.path, nil
		}
		p.ready = nil
	}
	next, err := p.make()
	if err == nil && background {
		p.start()
	}
	return next.file, next.path, err
}

// close ends the background work and waits for its end.
func (p *preparer) close() error {
	if p.ready == nil {
		return nil
	}
	close(p.stop)
	for unused := range p.ready { // lost the race against stop, or closed
		p.discard(unused)
	}
	p.ready = nil
	return nil
}
