package ctl

import (
	"strings"
	"unicode/utf8"
)

// table draws rows in a box:
//
//	┌──────┬─────┐
//	│ NAME │  N  │   header centred, a spare column goes to the right
//	├──────┼─────┤   left out when there are no rows
//	│    a │  12 │   cells to the right
//	└──────┴─────┘
func (p *printer) table(header []string, rows [][]string) {
	widths := columnWidths(header, rows)
	p.rule(widths, "┌", "┬", "┐")
	p.row(widths, header, centred)
	if len(rows) > 0 {
		p.rule(widths, "├", "┼", "┤")
	}
	for _, row := range rows {
		p.row(widths, row, flushRight)
	}
	p.rule(widths, "└", "┴", "┘")
}

func columnWidths(header []string, rows [][]string) []int {
	widths := make([]int, len(header))
	for i, cell := range header {
		widths[i] = utf8.RuneCountInString(cell)
	}
	for _, row := range rows {
		for i, cell := range row {
			row[i] = strings.TrimSpace(cell)
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	return widths
}

func (p *printer) rule(widths []int, left, between, right string) {
	p.buf.WriteString(left)
	for i, w := range widths {
		if i > 0 {
			p.buf.WriteString(between)
		}
		p.buf.WriteString(strings.Repeat("─", w+2))
	}
	p.buf.WriteString(right + "\n")
}

// row writes cells; place says how many of the spare columns go to the left.
func (p *printer) row(widths []int, cells []string, place func(spare int) int) {
	for i, cell := range cells {
		spare := widths[i] - utf8.RuneCountInString(cell)
		left := place(spare)
		p.buf.WriteString("│ " + strings.Repeat(" ", left) + cell + strings.Repeat(" ", spare-left) + " ")
	}
	p.buf.WriteString("│\n")
}

func centred(spare int) int    { return spare / 2 }
func flushRight(spare int) int { return spare }
