/*
 * Pictures of what was measured, drawn by gnuplot, which need not be there.
 */
#ifndef VF_TOOLS_PLOT_H
#define VF_TOOLS_PLOT_H

#include <stddef.h>

struct vf_curve {
	const char *name;
	const double *x, *y; /* [n] */
	size_t n;
};

struct vf_plot {
	const char *x_label, *y_label;
	const struct vf_curve *curves;
	size_t n_curves;
};

/*
 * Draw into the SVG file @path; x is logarithmic.
 * Returns 0; -ENOENT there is no gnuplot; -EIO; logged.
 */
int vf_plot_svg(const struct vf_plot *p, const char *path);

#endif
