#include "tools/plot.h"

#include <stdio.h>
#include <sys/wait.h>

#include "store/util.h"

enum { SHELL_NOT_FOUND = 127 };

/* In single quotes gnuplot knows one escape: a quote twice. */
static void put_quoted(FILE *to, const char *s)
{
	fputc('\'', to);
	for (; *s; s++) {
		if (*s == '\'')
			fputc('\'', to);
		fputc(*s, to);
	}
	fputc('\'', to);
}

static void put_script(const struct vf_plot *p, const char *path, FILE *to)
{
	fputs("set terminal svg size 720,480 background rgb 'white'\n"
	      "set output ",
	      to);
	put_quoted(to, path);
	fputs("\nset logscale x\nset grid\nset key bottom right\nset xlabel ",
	      to);
	put_quoted(to, p->x_label);
	fputs("\nset ylabel ", to);
	put_quoted(to, p->y_label);
	for (size_t i = 0; i < p->n_curves; i++) {
		fputs(i ? ", '-' with linespoints title "
			: "\nplot '-' with linespoints title ",
		      to);
		put_quoted(to, p->curves[i].name);
	}
	fputc('\n', to);
	for (size_t i = 0; i < p->n_curves; i++) {
		const struct vf_curve *c = &p->curves[i];
		for (size_t j = 0; j < c->n; j++)
			fprintf(to, "%.6g %.6g\n", c->x[j], c->y[j]);
		fputs("e\n", to);
	}
}

int vf_plot_svg(const struct vf_plot *p, const char *path)
{
	FILE *to = popen("command -v gnuplot >/dev/null || exit 127; "
			 "exec gnuplot",
			 "we");

	if (!to)
		return vf_fail(-EIO, "gnuplot: %s", strerror(errno));
	put_script(p, path, to);
	int status = pclose(to);
	if (WIFEXITED(status) && WEXITSTATUS(status) == SHELL_NOT_FOUND)
		return vf_fail(-ENOENT, "no plots: there is no gnuplot "
					"(apt-get install gnuplot-nox)");
	return status ? vf_fail(-EIO, "%s: gnuplot could not draw it", path)
		      : 0;
}
