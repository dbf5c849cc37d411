// The files to change, as tabs; and what can be copied.

const tabs = [...document.querySelectorAll('[role="tab"]')];
const panes = [...document.querySelectorAll('[role="tabpanel"]')];

function select(index, focus) {
  tabs.forEach((tab, i) => {
    tab.setAttribute("aria-selected", i === index);
    tab.tabIndex = i === index ? 0 : -1;
    panes[i].toggleAttribute("data-off", i !== index);
  });
  if (focus) tabs[index].focus();
}

tabs.forEach((tab, index) => {
  tab.addEventListener("click", () => select(index));
  tab.addEventListener("keydown", (event) => {
    const last = tabs.length - 1;
    const to = {
      ArrowRight: index === last ? 0 : index + 1,
      ArrowLeft: index ? index - 1 : last,
      Home: 0,
      End: last,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    select(to, true);
  });
});

for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    const code = button.closest(".pane, .install").querySelector("code");
    let done = "Copied";
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      getSelection().selectAllChildren(code);
      done = "Selected";
    }
    button.firstChild.data = done;
    document.getElementById("said").textContent = done;
    setTimeout(() => {
      button.firstChild.data = "Copy";
    }, 1600);
  });
}

// Where Django opens the message, on the rail
const rail = document.querySelector(".rail");
function place() {
  const { left } = rail.getBoundingClientRect();
  const heads = document.querySelectorAll(".head");
  for (const each of rail.querySelectorAll(".dj")) {
    each.style.left = `${heads[each.dataset.at].getBoundingClientRect().left - left}px`;
  }
}
if (rail) {
  addEventListener("resize", place);
  place();
}
