// The colours that were chosen, set before anything is drawn, so that the page does not flash. Not a module: modules run late.
{
    let chosen = null;
    try {
        chosen = localStorage.getItem("waterclock.theme");
    } catch {
        // No storage here: the system's colours it is.
    }
    if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
}
