// Package table draws the boxes of `-w table`.
package table

import (
	"io"
	"strings"
	"unicode/utf8"
)

// Write draws rows under a header:
//
//	┌──────┬─────┐
//	│ NAME │  N  │   header centred, a spare column goes to the right
//	├──────┼─────┤   left out when there are no rows
//	│    a │  12 │   cells to the right, without outer spaces
//	└──────┴─────┘
//
// Every row has a cell for each column of the header.
func Write(w io.Writer, header []string, rows [][]string) error {
	d := drawing{widths: columnWidths(header, rows)}
	d.rule("┌", "┬", "┐")
	d.row(header, centred)
	if len(rows) > 0 {
		d.rule("├", "┼", "┤")
	}
	for _, row := range rows {
		d.row(row, flushRight)
	}
	d.rule("└", "┴", "┘")
	_, err := io.WriteString(w, d.String())
	return err
}

type drawing struct {
	strings.Builder
	widths []int // of each column, in characters, without the space around it
}

func columnWidths(header []string, rows [][]string) []int {
	widths := make([]int, len(header))
	for i, cell := range header {
		widths[i] = utf8.RuneCountInString(cell)
	}
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(strings.TrimSpace(cell)))
		}
	}
	return widths
}

func (d *drawing) rule(left, between, right string) {
	d.WriteString(left)
	for i, w := range d.widths {
		if i > 0 {
			d.WriteString(between)
		}
		d.WriteString(strings.Repeat("─", w+2))
	}
	d.WriteString(right + "\n")
}

// row writes cells; place says how many of the spare columns go to the left.
func (d *drawing) row(cells []string, place func(spare int) int) {
	for i, cell := range cells {
		cell = strings.TrimSpace(cell)
		spare := d.widths[i] - utf8.RuneCountInString(cell)
		left := place(spare)
		d.WriteString("│ " + strings.Repeat(" ", left) + cell + strings.Repeat(" ", spare-left) + " ")
	}
	d.WriteString("│\n")
}

func centred(spare int) int    { return spare / 2 }
func flushRight(spare int) int { return spare }
