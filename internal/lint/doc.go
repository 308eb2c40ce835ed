// Package lint holds the tests that keep the house: which part may import
// which, which files documents point to, and where text would go stale.
package lint
