//go:build race

package disktest

const raceDetector = true
